-- What making a dataset costs, the most that it may cost, and how it is stopped and goes on.

alter table public.training_datasets
  add column cost_usd numeric(14, 8) default 0 check (cost_usd >= 0),
  add column prompt_tokens bigint not null default 0,
  add column completion_tokens bigint not null default 0,
  add column max_cost_usd numeric(12, 6) check (max_cost_usd > 0),
  add column chunk_cost_usd numeric(14, 8) check (chunk_cost_usd >= 0),
  add column stop_requested_at timestamptz,
  add column stop_reason text check (stop_reason in ('user', 'spend_cap')),
  add column warning jsonb;
comment on column public.training_datasets.cost_usd is
  'What the answers of models have cost so far, each counted as it arrived; null: one of them has no known price.';
comment on column public.training_datasets.max_cost_usd is 'No chunk is begun that could pass it; null: no cap.';
comment on column public.training_datasets.chunk_cost_usd is
  'What one chunk may cost: the upper end of the estimate, or the most that one has cost if that is more; null: not known.';
comment on column public.training_datasets.stop_reason is 'Why no chunk is begun any more; null: nobody stopped it.';
comment on column public.training_datasets.warning is
  'Of a generated dataset that is ready, {code, message}: why it holds less than it could; null: nothing.';

alter table public.dataset_chunks
  add column cost_usd numeric(14, 8) default 0 check (cost_usd >= 0),
  add column variant integer not null default 0;
comment on column public.dataset_chunks.cost_usd is 'Of all its answers, also those of no use; null: not known.';
comment on column public.dataset_chunks.variant is
  'How often an answer about it was of no use. It goes into the prompt, so that the next answer is another one.';
