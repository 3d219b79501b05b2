from typing import Any

from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from axolotl.utils.dict import DictDefault


def setup_trainer(
    cfg: DictDefault,
    train_dataset: Any,
    eval_dataset: Any,
    model: Any,
    tokenizer: Any,
    processor: Any,
    total_num_steps: int,
    model_ref: Any = None,
    peft_config: Any = None,
) -> Trainer:
    """With the arguments that axolotl 0.19.0's builder makes of such a config (core/builders/base.py)."""
    assert {"input_ids", "labels", "attention_mask"} == set(train_dataset.column_names)
    looks = {"eval_strategy": "steps", "eval_steps": cfg.eval_steps, "eval_on_start": True}
    if cfg.load_best_model_at_end:
        looks |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": cfg.metric_for_best_model,
            "greater_is_better": cfg.greater_is_better,
        }
    arguments = TrainingArguments(
        output_dir=cfg.output_dir,
        max_steps=total_num_steps,
        num_train_epochs=cfg.num_epochs,
        per_device_train_batch_size=cfg.micro_batch_size,
        gradient_accumulation_steps=cfg.gradient_accumulation_steps,
        learning_rate=cfg.learning_rate,
        lr_scheduler_type=cfg.lr_scheduler,
        warmup_steps=cfg.warmup_steps,
        weight_decay=cfg.weight_decay,
        seed=cfg.seed,
        bf16=cfg.bf16,
        logging_steps=cfg.logging_steps,
        save_strategy="steps",
        save_steps=cfg.save_steps,
        save_total_limit=cfg.save_total_limit,
        optim=cfg.optimizer,
        report_to=[],
        use_cpu=True,
        **(looks if eval_dataset else {}),
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=train_dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
