"""What touching does to a latent: found by where things are, alike for all, written where grounding reads."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from wm_vla_ros.world_models.contact import Contact  # noqa: E402

D, A = 24, 7
TIP, OBJECTS = [0, 1, 2], [3, 4, 5, 6, 7, 8]


@pytest.fixture
def reading():
    """(weight (D, G), bias (G,)): how a latent is read in metres."""
    torch.manual_seed(3)
    return 0.05 * torch.randn(D, 9), 0.1 * torch.randn(9)


@pytest.fixture
def contact(reading) -> Contact:
    """One that knows where things are, and has something to say of them."""
    made = Contact(D, A, 2)
    torch.nn.init.normal_(made.out.weight, std=0.3)
    made.look(*reading, TIP, OBJECTS)
    return made.eval().requires_grad_(False)


def latent_at(reading, positions):
    """A latent (1, D) that is read as positions (9,) in metres."""
    weight, bias = reading
    return torch.linalg.lstsq(weight.T, (torch.tensor(positions) - bias)[:, None]).solution.T


def motion(contact: Contact, reading, latent):
    """(9,) metres by which what is read of the latent changes."""
    return (contact(latent, torch.zeros(1, A)) @ reading[0])[0]


def test_without_knowing_where_things_are_nothing_touches(reading) -> None:
    blind = Contact(D, A, 2)
    torch.nn.init.normal_(blind.out.weight, std=0.3)
    assert torch.equal(blind(torch.randn(5, D), torch.randn(5, A)), torch.zeros(5, D))


def test_it_begins_without_a_touch(reading) -> None:
    fresh = Contact(D, A, 2)
    fresh.look(*reading, TIP, OBJECTS)
    assert torch.equal(fresh(torch.randn(5, D), torch.randn(5, A)), torch.zeros(5, D))


def test_what_it_finds_moves_the_objects_and_nothing_else(contact: Contact, reading) -> None:
    moved = (contact(torch.randn(6, D), torch.randn(6, A)) @ reading[0]).reshape(6, 3, 3)
    torch.testing.assert_close(moved[:, 0], torch.zeros(6, 3), atol=1e-6, rtol=0.0)
    assert (moved[:, 1:].norm(dim=2) > 1e-5).all()


def test_all_objects_are_alike(contact: Contact, reading) -> None:
    """Two objects that change places change their motions; what else is in the latent is left out here."""
    contact.latent_in.weight.zero_()
    tip, near, far = [0.2, 0.0, 0.015], [0.215, 0.01, 0.012], [0.15, -0.08, 0.012]
    one = motion(contact, reading, latent_at(reading, [*tip, *near, *far]))
    other = motion(contact, reading, latent_at(reading, [*tip, *far, *near]))
    torch.testing.assert_close(one[3:6], other[6:9], atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(one[6:9], other[3:6], atol=1e-5, rtol=1e-3)
    assert (one[3:6] - one[6:9]).norm() > 1e-4


def test_a_millimetre_beside_the_tip_makes_a_difference(contact: Contact, reading) -> None:
    contact.latent_in.weight.zero_()
    tip, far = [0.2, 0.0, 0.015], [0.0, -0.3, 0.012]
    here, there = (
        motion(contact, reading, latent_at(reading, [*tip, 0.215 + off, 0.01, 0.012, *far]))[3:6]
        for off in (0.0, 0.001)
    )
    assert (here - there).norm() > 0.01 * here.norm()
