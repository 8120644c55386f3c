"""What `config.json` and `preprocessor_config.json` say about a MERT checkpoint.

Absent fields take the defaults of HuggingFace's `HubertConfig`, which MERT's configuration shares; the sizes
and the convolutions have none and must be there. A setting that would change the arithmetic in a way that
mertric does not compute is refused by the name of its field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from mertric.errors import ConfigurationError
from mertric_export.fields import Fields, read_fields

MODEL_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"

MODEL_TYPES = ("mert_model", "hubert")
NORMALIZE_EPS = 1e-7
"""Added to a clip's variance before the square root (`Wav2Vec2FeatureExtractor`)."""
CONV_NORM_EPS = 1e-5
"""Epsilon of the group and layer norms of the convolutions, which `layer_norm_eps` does not set."""


@dataclass(frozen=True, kw_only=True)
class MertConfig:
    """Everything that decides the arithmetic of a MERT (HuBERT) encoder. Names are HuggingFace's.

    Attributes
    ----------
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size : int
        Sizes of the transformer. `num_attention_heads` divides `hidden_size`.
    conv_dim, conv_kernel, conv_stride : tuple of int
        Output channels, taps and stride of each convolution of the front end, in order.
    conv_bias : bool
        Whether those convolutions have a bias.
    feat_extract_norm : {"group", "layer"}
        `group`: one group per channel after the first convolution. `layer`: LayerNorm after each convolution.
    feat_proj_layer_norm : bool
        Whether a LayerNorm stands before the projection.
    num_conv_pos_embeddings, num_conv_pos_embedding_groups : int
        Taps and groups of the positional convolution. The groups divide `hidden_size`.
    do_stable_layer_norm : bool
        False: LayerNorm after each residual (95M). True: before it, and once more at the end (330M).
    layer_norm_eps : float
        Epsilon of every LayerNorm but those of the convolutions (`CONV_NORM_EPS`).
    sample_rate : int
        Hz.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    conv_dim: tuple[int, ...] = (512,) * 7
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_proj_layer_norm: bool = True
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    do_stable_layer_norm: bool = False
    layer_norm_eps: float = 1e-5
    sample_rate: int = 24000

    def __post_init__(self) -> None:
        convolutions = (self.conv_dim, self.conv_kernel, self.conv_stride)
        if len({len(sizes) for sizes in convolutions}) != 1 or not self.conv_dim:
            raise ConfigurationError(
                f"conv_dim, conv_kernel and conv_stride have {', '.join(str(len(s)) for s in convolutions)} "
                "entries; expected one entry per convolution in each. Use the config.json of the checkpoint."
            )
        for divisor in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            if self.hidden_size % getattr(self, divisor):
                raise ConfigurationError(
                    f"{divisor} is {getattr(self, divisor)}, which does not divide hidden_size "
                    f"{self.hidden_size}. Use the config.json of the checkpoint."
                )

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def hop(self) -> int:
        """Samples between two frames."""
        return math.prod(self.conv_stride)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the front end sees."""
        field = 1
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            field = (field - 1) * stride + kernel
        return field

    def frames(self, samples: int) -> int:
        """Frames that `samples` samples give: 0 where they are fewer than `receptive_field`."""
        return max(0, (samples - self.receptive_field) // self.hop + 1)


def read_config(directory: str | Path) -> MertConfig:
    """Read and check a checkpoint's configuration.

    Parameters
    ----------
    directory : path
        Holds `config.json` and `preprocessor_config.json`.

    Raises
    ------
    CheckpointError
        A file is missing or is not a JSON object.
    ConfigurationError
        A field is absent, ill-typed, or asks for something that mertric does not compute; it is named.
    """
    directory = Path(directory)
    model = read_fields(directory / MODEL_FILE)
    preprocessor = read_fields(directory / PREPROCESSOR_FILE)
    _refuse_unsupported(model, preprocessor)
    return MertConfig(
        hidden_size=model.count("hidden_size"),
        num_hidden_layers=model.count("num_hidden_layers"),
        num_attention_heads=model.count("num_attention_heads"),
        intermediate_size=model.count("intermediate_size"),
        conv_dim=model.counts("conv_dim"),
        conv_kernel=model.counts("conv_kernel"),
        conv_stride=model.counts("conv_stride"),
        conv_bias=model.flag("conv_bias", False),
        feat_extract_norm=cast('Literal["group", "layer"]', model.get("feat_extract_norm", "group")),
        feat_proj_layer_norm=model.flag("feat_proj_layer_norm", True),
        num_conv_pos_embeddings=model.count("num_conv_pos_embeddings", 128),
        num_conv_pos_embedding_groups=model.count("num_conv_pos_embedding_groups", 16),
        do_stable_layer_norm=model.flag("do_stable_layer_norm", False),
        layer_norm_eps=model.epsilon("layer_norm_eps", 1e-5),
        sample_rate=_sample_rate(model, preprocessor),
    )


def _refuse_unsupported(model: Fields, preprocessor: Fields) -> None:
    """Refuse what would change the arithmetic. `attention_relax` does not: it is the identity."""
    model.expect("model_type", MODEL_TYPES, "other families compute something else")
    model.expect("feature_extractor_cqt", (False,), "constant-Q features beside the waveform are not computed")
    model.expect("deepnorm", (False,), "scaled residuals are not computed")
    model.expect("conv_pos_batch_norm", (False,), "only a weight-normalised positional convolution is computed")
    model.expect("add_adapter", (False,), "adapters are not computed")
    model.expect("adapter_attn_dim", (None,), "adapters are not computed")
    model.expect("hidden_act", ("gelu",), "only the GELU in its erf form is computed")
    model.expect("feat_extract_activation", ("gelu",), "only the GELU in its erf form is computed")
    model.expect("feat_extract_norm", ("group", "layer"), "no other norm is computed")
    preprocessor.expect("feature_extractor_type", ("Wav2Vec2FeatureExtractor",), "the input must be a waveform")
    preprocessor.expect("feature_size", (1,), "the input must be one waveform")
    preprocessor.expect(
        "do_normalize",
        (True,),
        "each clip's zero mean and unit variance are part of the exported front end; "
        "a model that takes raw samples needs another",
    )


def _sample_rate(model: Fields, preprocessor: Fields) -> int:
    rate = preprocessor.count("sampling_rate")
    if model.count("sample_rate", rate) != rate:
        raise ConfigurationError(
            f"sample_rate in {MODEL_FILE} is {model.get('sample_rate')} Hz but sampling_rate in "
            f"{PREPROCESSOR_FILE} is {rate} Hz; expected one rate. Use both files of one checkpoint."
        )
    return rate
