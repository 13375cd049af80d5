"""The parity adapters: kind of a reference case -> function that runs it and compares every stored value."""

from parity import internvideo_mae, internvideo_mm, merging, sampling, uniformerv2, viclip, videomae_data

ADAPTERS = {
    "videomae_classification": internvideo_mae.videomae_classification,
    "videomae_loading": internvideo_mae.videomae_loading,
    "videomae_pretraining": internvideo_mae.videomae_pretraining,
    "mm_load_video": internvideo_mm.mm_load_video,
    "mm_tokenizer": internvideo_mm.mm_tokenizer,
    "mm_zero_shot": internvideo_mm.mm_zero_shot,
    "mm_clip_init": internvideo_mm.mm_clip_init,
    "mm_forward": internvideo_mm.mm_forward,
    "mm_sampling": sampling.mm_sampling,
    "mm_wiseft": merging.mm_wiseft,
    "openset_frame_indices": sampling.openset_frame_indices,
    "retrieval_frames": sampling.retrieval_frames,
    "uniformerv2_classification": uniformerv2.uniformerv2_classification,
    "uniformerv2_clip_init": uniformerv2.uniformerv2_clip_init,
    "uniformerv2_head_map": uniformerv2.uniformerv2_head_map,
    "uniformerv2_sampling": sampling.uniformerv2_sampling,
    "viclip_clip_init": viclip.viclip_clip_init,
    "viclip_forward": viclip.viclip_forward,
    "viclip_frames2tensor": viclip.viclip_frames2tensor,
    "viclip_protocol": viclip.viclip_protocol,
    "viclip_resizing": viclip.viclip_resizing,
    "viclip_tokenizer": viclip.viclip_tokenizer,
    "viclip_two_rank_loss": viclip.viclip_two_rank_loss,
    "videomae_frame_indices": sampling.videomae_frame_indices,
    "videomae_masks": videomae_data.videomae_masks,
    "videomae_preprocessing": videomae_data.videomae_preprocessing,
    "videomae_repeated_sampling": videomae_data.videomae_repeated_sampling,
    "videomae_score_merging": videomae_data.videomae_score_merging,
}
