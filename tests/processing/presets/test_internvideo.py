"""The processor of the fused model."""

from models.internvideo.test_modeling_internvideo import tiny_config

from internvideo_hf.processing.presets import build_processor, internvideo_mae, uniformerv2


def test_it_is_the_processors_of_both_encoders():
    config = tiny_config()
    processor = build_processor(config)
    expected = [
        internvideo_mae.build_processor(config.internvideo_mae_config),
        uniformerv2.build_processor(config.uniformerv2_config),
    ]
    assert [branch.to_dict() for branch in processor.branches.values()] == [own.to_dict() for own in expected]
