"""Configuration of the planner of vision-language navigation."""

from huggingface_hub.dataclasses import strict

from internvideo_hf.models.common.configuration import VideoConfig
from internvideo_hf.utils.pretrained import check_sizes


@strict
class VLNPlannerConfig(VideoConfig):
    """Sizes of the planner; the defaults are those of the public one on InternVideo's ViT-L.

    Args:
        vocab_size: words of the tokenizer, BERT's.
        pad_token_id: id of padding.
        max_position_embeddings: the longest instruction, in tokens.
        type_vocab_size: kinds of tokens in the table of types: 0 for words and 1 for what is seen.
        hidden_size: width of all tokens.
        intermediate_size: width inside the MLPs.
        num_hidden_layers: layers of the language alone.
        num_cross_layers: layers in which words and what is seen attend to each other.
        num_panorama_layers: layers over the views of a past step.
        num_attention_heads: must divide `hidden_size`.
        hidden_act: activation of the MLPs.
        layer_norm_eps: epsilon of all layer norms.
        hidden_dropout: dropout behind attention, MLPs and embeddings, and in the action head, 0-1, in training only.
        attention_dropout: dropout of attention probabilities, 0-1, in training only.
        feature_dropout: dropout of the features of views, 0-1, in training only.
        still_size: channels of the features of stills; CLIP ViT-B/32 has 512.
        video_size: channels of the features of videos; InternVideo's ViT-L has 1024, its ViT-B 768.
        rgb_size: channels of a view, from both.
        depth_size: channels of the features of depth.
        num_views: views of a panorama, at equal angles.
        max_history_steps: steps that the table of past steps has rows for.
        use_critic: whether there is a critic, which estimates the return of a state, for training by reward.
        critic_hidden_size: width inside the critic.
        mirrored_video_views: fuse the still of each view with the video of the view at the opposite angle, left for
            right. The released weights were trained so; a converted model repeats it.
        initializer_range: standard deviation of new weights.

    Raises:
        StrictDataclassClassValidationError: where two numbers do not fit each other.
    """

    model_type = "vln_planner"

    vocab_size: int = 30522
    pad_token_id: int | None = 0
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 9
    num_cross_layers: int = 4
    num_panorama_layers: int = 2
    num_attention_heads: int = 12
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-12
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    feature_dropout: float | int = 0.4
    still_size: int = 512
    video_size: int = 1024
    rgb_size: int = 768
    depth_size: int = 128
    num_views: int = 12
    max_history_steps: int = 50
    use_critic: bool = False
    critic_hidden_size: int = 512
    mirrored_video_views: bool = False
    initializer_range: float | int = 0.02

    def validate_architecture(self) -> None:
        super().validate_architecture()
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} must divide hidden_size={self.hidden_size}."
            )
        for name in ("still_size", "video_size", "rgb_size", "depth_size", "num_views", "max_history_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.type_vocab_size < 2:
            raise ValueError(f"type_vocab_size={self.type_vocab_size} must be at least 2: words, and what is seen.")
        for name in ("hidden_dropout", "attention_dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and less than 1.")
        check_sizes(vars(self))


__all__ = ["VLNPlannerConfig"]
