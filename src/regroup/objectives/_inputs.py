"""What an objective may read and what it returns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.constants import Padding
from regroup.objectives._needs import Need


@dataclass(frozen=True)
class Labels:
    """The labels drawn for each image.

    Attributes:
        features: at padding zeros, or what the run's text projector makes of a text of zero tokens
            (`batch_norm.padding` of its variant). Most objectives put something else there, see
            `ObjectiveInputs.padding`.
        ids: equal numbers for equal label strings, -1 where an image has fewer than K labels.
    """

    features: Float[Tensor, "b k c"]
    ids: Int64[Tensor, "b k"]

    @property
    def present(self) -> Bool[Tensor, "b k"]:
        """Where there is a label."""
        return self.ids >= 0


@dataclass(frozen=True)
class TokenStates:
    """The text tower's state at every token of the image's caption, before any projector.

    Attributes:
        ids: CLIP's token ids; T is the length of the longest caption of this rank's batch.
        states: after the tower's final norm; causal, so a state knows the tokens up to its own.
        present: up to and including end-of-text.
    """

    ids: Int64[Tensor, "b t"]
    states: Float[Tensor, "b t w"]
    present: Bool[Tensor, "b t"]


@dataclass(frozen=True)
class CaptionSets:
    """All captions of each image, in the order of their ids; M is the most that an image of the corpus has.

    Attributes:
        features: zeros where an image has fewer.
        numbers: of the texts, -1 there; equal numbers are the same caption.
    """

    features: Float[Tensor, "b m c"]
    numbers: Int64[Tensor, "b m"]

    @property
    def present(self) -> Bool[Tensor, "b m"]:
        """Where there is a caption."""
        return self.numbers >= 0


@dataclass(frozen=True)
class TeacherOutputs:
    """What the model as it was at the start makes of the same batch; in evaluation mode, without gradient."""

    image: Float[Tensor, "b c"]
    caption: Float[Tensor, "b c"]
    segments: Float[Tensor, "b g c"]
    attention: Float[Tensor, "b g l"]
    patches: Float[Tensor, "b l w"]


@dataclass(frozen=True)
class ObjectiveInputs:
    """One rank's share of a batch: B images, K label places an image, G groups, L patches, C channels.

    Every rank brings the same B and K. Features are not normalised.

    Attributes:
        image: image features.
        caption: caption features.
        logit_scale: log of the inverse temperature of the contrastive loss; its exponential is cut at 100.
        multi_label_logit_scale: the same for the losses over labels.
        padding: what stands where a label's id is -1 (sections 4.1 and 5.7).
            `caption`: the caller put the caption's features there; they count as a label of their own image.
            `null`: an embedding of zeros, whatever the caller put there; it takes part in every softmax.
            `mask`: nothing; the place is left out of numerators and denominators.
            `denominator`: an embedding of zeros that is no target: it stays among what an image is compared
            with, and images and places without any label count in means, with a loss of 0.
        given: what was computed for this batch; read by the properties below, each of which raises
            `RegroupError` where the objective does not declare that it needs it.
        heads: modules that are trained beside the model, by name: those that the objective declares.
    """

    image: Float[Tensor, "b c"]
    caption: Float[Tensor, "b c"]
    logit_scale: Float[Tensor, ""]
    multi_label_logit_scale: Float[Tensor, ""]
    padding: Padding = "null"
    given: Mapping[Need, Any] = field(default_factory=dict)
    heads: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def labels(self) -> Labels:
        """The image's labels."""
        labels: Labels = self._read(Need.LABELS)
        return labels

    @property
    def segments(self) -> Float[Tensor, "b g c"]:
        """Projected segments (eq. 29)."""
        segments: Tensor = self._read(Need.SEGMENTS)
        return segments

    @property
    def attention(self) -> Float[Tensor, "b g l"]:
        """Product of the soft assignments (eq. 34): a distribution over groups for each patch."""
        attention: Tensor = self._read(Need.ATTENTION)
        return attention

    @property
    def patches(self) -> Float[Tensor, "b l w"]:
        """Image tokens at the end of the first stage, in the tower's own width, not normalised."""
        patches: Tensor = self._read(Need.PATCHES)
        return patches

    @property
    def dino(self) -> Float[Tensor, "b l d"]:
        """Self-supervised features of the same patches."""
        dino: Tensor = self._read(Need.DINO)
        return dino

    @property
    def tokens(self) -> TokenStates:
        """Token-level states of the caption."""
        tokens: TokenStates = self._read(Need.TOKENS)
        return tokens

    @property
    def captions(self) -> CaptionSets:
        """All captions of the image."""
        captions: CaptionSets = self._read(Need.CAPTIONS)
        return captions

    @property
    def view(self) -> Float[Tensor, "b c"]:
        """Features of a second augmented view of each image."""
        view: Tensor = self._read(Need.VIEW)
        return view

    @property
    def teacher(self) -> TeacherOutputs:
        """Outputs of the frozen start model."""
        teacher: TeacherOutputs = self._read(Need.TEACHER)
        return teacher

    def only(self, needs: Collection[Need], heads: Collection[str] = ()) -> ObjectiveInputs:
        """The same batch for an objective that declares these needs and heads.

        Raises:
            RegroupError: one of them was not computed.
        """
        if missing := [need for need in Need if need in needs and need not in self.given]:
            raise RegroupError(f"needs {', '.join(missing)}, which the batch lacks")
        if absent := sorted(set(heads) - set(self.heads)):
            raise RegroupError(f"needs the head {', '.join(absent)}; list it in the variant's `heads`")
        given = {need: self.given[need] for need in needs}
        return replace(self, given=given, heads={head: self.heads[head] for head in heads})

    def _read(self, need: Need) -> Any:
        if need not in self.given:
            raise RegroupError(f"reads {need}, and its NEEDS do not say so")
        return self.given[need]


@dataclass(frozen=True)
class ObjectiveResult:
    """Value of one objective.

    Attributes:
        loss: scalar with gradient, in float32. On several ranks its value is the whole batch's on each of
            them, and its gradients are right once averaged over ranks, as data-parallel training does.
        metrics: further detached scalars worth logging, each as `<objective>.<its name here>`.
    """

    loss: Float[Tensor, ""]
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
