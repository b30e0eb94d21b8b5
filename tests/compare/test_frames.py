"""One frame for many layers: equal stems, equal data, and a gap that takes what a layer gives."""

import math
import types

import pytest
import torch
from torch import nn

from course_lib.compare.frames import (
    Frame,
    Variant,
    compare,
    image_frame,
    sequence_frame,
    text_name,
    token_frame,
    vector_frame,
)

FRAMES = {
    "vectors": (vector_frame(12), lambda: nn.Linear(12, 12)),
    "images": (image_frame(6), lambda: nn.Conv2d(6, 6, 3, padding=1)),
    "tokens": (token_frame(12), lambda: nn.Linear(12, 12)),
    "tokens of a pixel": (token_frame(12, patch=1), lambda: nn.Linear(12, 12)),
    "sequences": (sequence_frame(12), lambda: nn.Linear(12, 12)),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_makes_a_classifier_and_says_what_its_layer_gets(kind):
    frame, build = FRAMES[kind]
    seen = []

    def spying():
        layer = build()
        layer.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
        return layer

    model = frame(spying)
    assert model(torch.randn(5, 1, 8, 8)).shape == (5, 10)
    assert seen[-1] == (5, *frame.shape) == frame.example(5).shape
    assert frame.kind == kind.split()[0]


@pytest.mark.parametrize("kind", FRAMES)
def test_the_stem_is_the_same_whatever_the_layer_draws(kind):
    frame, build = FRAMES[kind]
    stems = []
    for layer in (build, nn.Identity):
        torch.manual_seed(3)
        stems.append(frame(layer)[0].state_dict())
    for name, value in stems[0].items():
        assert torch.equal(value, stems[1][name])


@pytest.mark.parametrize(
    ("frame", "build"),
    [
        (vector_frame(12), lambda: nn.Linear(12, 7)),
        (image_frame(6), lambda: nn.Conv2d(6, 9, 3, stride=2)),
        (image_frame(6), lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())),
        (token_frame(12), lambda: nn.Linear(12, 7)),
        (token_frame(12), lambda: nn.Conv1d(16, 4, 1)),
        (token_frame(12), lambda: nn.Flatten()),
    ],
)
def test_a_layer_may_change_its_features_and_positions_or_pool_them_away(frame, build):
    assert frame(build)(torch.randn(3, 1, 8, 8)).shape == (3, 10)


class Pair(nn.Module):
    """Gives two things."""

    def forward(self, x):
        return x, x


class OneNumber(nn.Module):
    """Forgets the batch."""

    def forward(self, x):
        return x.sum()


@pytest.mark.parametrize(("layer", "words"), [(Pair, "gives tuple"), (OneNumber, r"gives \(\)")])
def test_a_layer_that_gives_no_row_per_example_is_refused(layer, words):
    with pytest.raises(ValueError, match=words):
        vector_frame(12)(layer)


def test_asking_for_the_width_leaves_statistics_and_random_numbers_alone():
    torch.manual_seed(0)
    model = vector_frame(12)(lambda: nn.BatchNorm1d(12))
    assert model[1].running_mean.abs().max() == 0
    assert model[1].training
    after = torch.get_rng_state()
    torch.manual_seed(0)
    nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), nn.Linear(12, 10)
    assert torch.equal(torch.get_rng_state(), after)


def test_the_mean_is_over_positions_and_the_activation_before_it():
    frame = Frame("tokens", (4, 3), nn.Identity, nn.ReLU)
    model, x = frame(nn.Identity), torch.randn(2, 4, 3)
    torch.testing.assert_close(model[:-1](x), x.relu().mean(1))
    images = Frame("images", (3, 2, 2), nn.Identity, nn.ReLU)(nn.Identity)
    x = torch.randn(2, 3, 2, 2)
    torch.testing.assert_close(images[:-1](x), x.relu().mean((2, 3)))


class Recurrent(nn.Module):
    """A GRU without its last state."""

    def __init__(self, dim):
        super().__init__()
        self.cells = nn.GRU(dim, dim, batch_first=True)

    def forward(self, x):
        return self.cells(x)[0]


def test_a_sequence_is_read_pixel_by_pixel_in_order_and_named_behind_the_last():
    frame = sequence_frame(12)
    model, images = frame(nn.Identity).eval(), torch.rand(3, 1, 8, 8)
    tokens = model[0].embed(images.reshape(3, 64, 1)) + model[0].position
    torch.testing.assert_close(model[0](images), tokens)
    changed = images.clone()
    changed[..., :-1] = 0  # all but the last column: without a mixer only the last pixel counts
    torch.testing.assert_close(model(images), model(changed))
    assert not torch.equal(frame(lambda: Recurrent(12))(images), model(images))


def test_layers_of_sequences_get_the_frames_own_budget(monkeypatch):
    spent = []

    def fit(model, batch, *, steps, lr, **options):
        spent.append((steps, lr))
        return types.SimpleNamespace(diverged=True)

    monkeypatch.setattr("course_lib.compare.frames.fit", fit)
    variants = [Variant("none", nn.Identity), Variant("images", nn.Identity, frame=image_frame(4))]
    found = compare(variants, frame=sequence_frame(12), seed=0)
    assert spent == [(500, 5e-3), (500, 5e-3), (300, 1e-2)]
    assert all(math.isnan(value) for value in found.values())
    compare(variants[:1], frame=sequence_frame(12), seed=0, steps=7, lr=0.5)
    assert spent[3:] == [(7, 0.5)] * 2


@pytest.mark.parametrize("stem", [token_frame(64, patch=1).stem, sequence_frame(64).stem])
def test_positions_begin_small_beside_the_tokens(stem):
    torch.manual_seed(0)
    assert 0.015 < stem().position.std() < 0.025


def test_a_writer_foretells_every_character_from_those_before_it():
    writer = sequence_frame(12).writer(lambda: Recurrent(12), 30).eval()
    tokens = torch.randint(30, (2, 64))
    later = tokens.clone()
    later[:, 40:] = (later[:, 40:] + 1) % 30
    scores = writer(tokens)
    assert scores.shape == (2, 64, 30)
    torch.testing.assert_close(scores[:, :40], writer(later)[:, :40])
    with pytest.raises(ValueError, match="this frame is one of tokens"):
        token_frame(12).writer(nn.Identity, 30)


@pytest.mark.parametrize("build", [lambda: nn.Linear(12, 7), lambda: Pair(), lambda: nn.Flatten()])
def test_a_layer_of_sequences_keeps_the_shape(build):
    for make in (sequence_frame(12), lambda layer: sequence_frame(12).writer(layer, 30)):
        with pytest.raises(ValueError, match="keeps the shape"):
            make(build)


def test_layers_of_sequences_are_tried_on_digits_and_on_text():
    variants = [Variant("gru", lambda: Recurrent(12)), Variant("none", nn.Identity)]
    found = compare(variants, frame=sequence_frame(12), seed=0, steps=40)
    assert list(found) == ["gru", "gru: text", "none", "none: text"]
    assert text_name("none") == "none: text"
    assert 2 < found["none: text"] < 4
    assert 0 <= found["gru"] <= 1


def test_patches_cover_the_image_once():
    with pytest.raises(ValueError, match="patch=3"):
        token_frame(8, patch=3)
    tokens = token_frame(4).stem()
    images = torch.arange(64.0).view(1, 1, 8, 8)
    patches = tokens.patches(images).flatten(2).mT[0]
    assert sorted(patches.flatten().tolist()) == list(range(64))
    assert sorted(patches[0].tolist()) == [0, 1, 8, 9]


VARIANTS = [Variant("linear", lambda: nn.Linear(64, 64)), Variant("none", nn.Identity)]
PLAIN = vector_frame(64, activation=nn.Identity)


def test_the_comparison_is_the_same_for_equal_seeds_and_sees_what_a_layer_brings():
    variants = [Variant("relu", nn.ReLU), Variant("none", nn.Identity)]
    found = compare(variants, frame=PLAIN, seed=1, steps=120)
    assert found == compare(variants, frame=PLAIN, seed=1, steps=120)
    assert found["relu"] > found["none"] + 0.05
    assert found != compare(variants, frame=PLAIN, seed=2, steps=120)


def test_a_variant_does_not_depend_on_its_neighbours():
    alone = compare(VARIANTS[1:], frame=PLAIN, seed=0, steps=20)
    assert compare(VARIANTS, frame=PLAIN, seed=0, steps=20)["none"] == alone["none"]


def test_a_variant_may_bring_its_own_frame():
    own = Variant("tokens", nn.Identity, frame=token_frame(8))
    found = compare([*VARIANTS, own], frame=PLAIN, seed=0, steps=5)
    assert list(found) == ["linear", "none", "tokens"]


class Explodes(nn.Module):
    """Multiplies what it gets into the infinite."""

    def forward(self, x):
        return x * 1e38 * 1e38


def test_a_run_that_diverges_has_no_accuracy():
    found = compare([Variant("explodes", Explodes)], frame=PLAIN, seed=0, steps=5)
    assert math.isnan(found["explodes"])


def test_two_variants_of_one_name_are_refused():
    with pytest.raises(ValueError, match="a name of its own"):
        compare([VARIANTS[0], VARIANTS[0]], frame=PLAIN, seed=0)
