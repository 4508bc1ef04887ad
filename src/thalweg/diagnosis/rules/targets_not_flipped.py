from thalweg.diagnosis.evidence import latest
from thalweg.diagnosis.rule import Finding, Prescription, rule
from thalweg.record import History
from thalweg.record.quantities import FLIPPED_PICTURES


@rule(
    "targets-not-flipped",
    stage="data",
    needs=(FLIPPED_PICTURES,),
    explains=(
        *("underfitting", "training-plateau", "over-regularised", "stopped-too-early"),
        *("label-noise", "labels-without-signal", "loss-not-falling", "loss-oscillates"),
        *("augmentation-destroys-labels", "overfitting", "output-ignores-inputs"),
    ),
)
def targets_not_flipped(history: History, *, least: int = 4) -> Finding | None:
    """The augmentation flips or turns pictures, and leaves their masks or boxes as they were.

    Why it matters: half of the targets then show another place than the picture. The model learns
    the average of both, blurred masks and boxes in the middle.

    Evidence: training samples read several times. Two readings are each other's mirror image (or
    turned by 90, 180 or 270 degrees, brightness aside), and the masks of both are the same although
    not symmetric; or both boxes or points are, which tell where the picture's content lies.
    Threshold: four such samples, and none whose target followed.
    False alarms: none are known. Classes and other targets without a place are not looked at.
    Convicted by: transformed together, the same model reaches a lower loss on both splits.
    Source: Buslaev et al. 2020, "Albumentations: fast and flexible image augmentations"
    (transforms of masks, boxes and points); torchvision's v2 transforms, joint transforms.
    """
    counts = latest(history, FLIPPED_PICTURES)
    stayed, followed = int(counts.get("stayed", 0)), int(counts.get("followed", 0))
    if stayed < least or followed:
        return None
    return Finding(
        severity="error",
        summary=f"training pictures are flipped or turned at random, and their targets are not: "
        f"of {stayed} samples read again, 0 targets followed",
        evidence={"targets that stayed": stayed, "targets that followed": followed},
        prescriptions=(
            Prescription(
                change="draw the flip once a sample and apply it to the picture and its target: "
                "mask.flip(-1), or x → width − x for boxes and points",
                expect="a lower loss on both splits; sharper masks, boxes off the middle",
            ),
        ),
    )
