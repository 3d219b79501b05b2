from axolotl.utils.dict import DictDefault


def load_cfg(config: DictDefault) -> DictDefault:
    """The rules of axolotl 0.19.0's schema that our config could break."""
    assert config.datasets is not None, "either datasets or pretraining_dataset is required"
    if config.val_set_size == 0 and (config.eval_steps or config.eval_strategy) and not config.test_datasets:
        raise ValueError("eval_steps and eval_strategy are not supported with val_set_size == 0")
    assert config.learning_rate is not None
    assert config.micro_batch_size
    return config
