-- A run from a recipe starts from the very commit of the base model that the recipe names.

alter table public.training_jobs add column base_revision text check (length(base_revision) between 1 and 64);
comment on column public.training_jobs.base_revision is
  'Commit of a base model of the Hub; null: the newest, which the trainer writes into the recipe.';
