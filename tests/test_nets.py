"""Networks for any size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jensen import Conditional, JensenError, families, nets

sizes = st.integers(1, 19)
channels = st.integers(1, 4)
levels = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, channels, levels, st.integers(1, 3))
def test_convolutions_take_images_of_any_size(height, width, colours, widths, parameters):
    shape = (height, width, colours)
    x = torch.rand(2, *shape)
    assert nets.conv_encoder(shape, 5, channels=widths, width=3)(x).shape == (2, 5)
    out = nets.conv_decoder(4, shape, parameters, channels=widths, width=3)(torch.rand(2, 4))
    assert out.shape == (2, parameters * height * width * colours)


def test_grey_images_without_a_channel_dimension():
    assert nets.conv_encoder((1, 1), 2)(torch.rand(3, 1, 1)).shape == (3, 2)
    assert nets.conv_decoder(2, (5, 3))(torch.rand(3, 2)).shape == (3, 15)


def test_the_decoder_lays_parameters_out_as_the_data_are():
    torch.manual_seed(0)
    decoder = nets.conv_decoder(2, (4, 5, 3), parameters=2, channels=(6,), width=3)
    z = torch.rand(2, 2)
    maps = decoder[:-1](z)
    assert maps.shape == (2, 6, 4, 5)
    first, second = decoder(z).chunk(2, dim=1)
    torch.testing.assert_close(first.reshape(2, 4, 5, 3), maps[:, :3].permute(0, 2, 3, 1), rtol=0, atol=0)
    torch.testing.assert_close(second.reshape(2, 4, 5, 3), maps[:, 3:].permute(0, 2, 3, 1), rtol=0, atol=0)


def test_numbers_of_one_parameter_lie_innermost():
    """One channel of the last map moves one level of each pixel, and nothing else."""
    family = families.Categorical((4, 5, 3), levels=7)
    torch.manual_seed(0)
    for decoder, z in (
        (nets.conv_decoder(2, (4, 5, 3), channels=(6,), width=3, inner=7), torch.rand(2, 2)),
        (nets.grid_decoder(2, (4, 5, 3), halvings=1, width=4, inner=7), torch.rand(2, 2, 3, 2)),
        (nets.conv_likelihood(2, (4, 5, 3), inner=7), torch.rand(2, 2, 4, 5)),
    ):
        logits = Conditional(decoder, family, event_dims=z.ndim - 1)(z).base_dist.logits
        maps = decoder[:-1](z).detach().unflatten(1, (7, 3)).permute(0, 3, 4, 2, 1)
        torch.testing.assert_close(logits.log_softmax(-1).detach(), maps.log_softmax(-1))


def test_the_encoder_reads_height_width_channels():
    encoder = nets.conv_encoder((4, 5, 3), 2)
    x = torch.rand(2, 4, 5, 3)
    torch.testing.assert_close(encoder[0](x)[:, 2], x[..., 2], rtol=0, atol=0)


def test_every_pixel_of_the_data_reaches_the_encoder():
    torch.manual_seed(0)
    x = torch.rand(1, 7, 5, 2, requires_grad=True)
    nets.conv_encoder((7, 5, 2), 1)(x).sum().backward()
    assert (x.grad != 0).all()


def test_a_dense_network_flattens_its_input():
    assert nets.mlp(12, 3)(torch.rand(2, 3, 4)).shape == (2, 3)
    assert len(nets.mlp(12, 3, hidden=())) == 2


@pytest.mark.parametrize(
    "build",
    [
        lambda: nets.mlp(0, 3),
        lambda: nets.mlp(3, 3, hidden=(4, 0)),
        lambda: nets.mlp(3, -1),
        lambda: nets.conv_encoder((5,), 3),
        lambda: nets.conv_encoder((5, 5, 3, 1), 3),
        lambda: nets.conv_encoder((5, 0), 3),
        lambda: nets.conv_encoder((5, 5), 0),
        lambda: nets.conv_encoder((5, 5), 3, channels=(4, 0)),
        lambda: nets.conv_encoder((5, 5), 3, width=0),
        lambda: nets.conv_decoder(0, (5, 5)),
        lambda: nets.conv_decoder(3, (5,)),
        lambda: nets.conv_decoder(3, (5, 5), parameters=0),
        lambda: nets.conv_decoder(3, (5, 5), channels=()),
        lambda: nets.conv_decoder(3, (5, 5), channels=(0,)),
        lambda: nets.conv_decoder(3, (5, 5), width=-2),
    ],
)
def test_wrong_sizes_are_refused(build):
    with pytest.raises(JensenError, match="got"):
        build()
