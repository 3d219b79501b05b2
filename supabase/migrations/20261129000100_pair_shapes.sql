-- What rows of files and logs hold beside a question and its answer: tools, a label of good or bad, columns of
-- their own, and the place that they came from.

alter table public.training_pairs
  drop constraint training_pairs_kind_check,
  add constraint training_pairs_kind_check check (kind in ('sft', 'preference', 'kto')),
  add column tools jsonb check (jsonb_typeof(tools) = 'array'),
  add column is_desirable boolean,
  add column metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  add column source_name text check (length(source_name) <= 255),
  add column source_line integer check (source_line >= 1),
  add constraint kto_has_label check ((kind = 'kto') = (is_desirable is not null));
comment on column public.training_pairs.tools is 'What the conversation may call, as OpenAI defines it; null: nothing.';
comment on column public.training_pairs.is_desirable is 'Whether the answer is a good one; null unless kind is kto.';
comment on column public.training_pairs.metadata is 'Columns of the file or log that belong to no turn.';
comment on column public.training_pairs.source_name is 'The file that it was imported from; null: none.';
comment on column public.training_pairs.source_line is 'The line of that file, from 1, or the place in the list of rows.';
