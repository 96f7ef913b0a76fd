"""`--dockerlab-keep` leaves containers and images for a look inside."""

from __future__ import annotations


def test_containers_and_images_stay(lab):
    assert lab.run("--dockerlab-keep").ret == 0
    kinds = {one.kind for one in lab.engine.owned()}
    assert kinds == {"container", "image"}
    assert any(name.startswith("dockerlab/train:") for name in lab.engine.images())


def test_without_it_nothing_stays(lab):
    lab.run()
    assert lab.engine.owned() == []
