-- What is known of a provider key besides its ciphertext: whether the provider takes it, whose it is and what it may do.

-- Modal trains under the token of the deployment, so it takes no key of a user.
delete from public.user_api_keys where provider = 'modal';
alter table public.user_api_keys
  drop constraint user_api_keys_provider_check,
  add constraint user_api_keys_provider_check check (provider in
    ('openai', 'anthropic', 'gemini', 'huggingface', 'together', 'openai_compatible')),
  add column set_at timestamptz not null default now(),
  add column invalid_at timestamptz,
  add column invalid_reason text check (length(invalid_reason) <= 500),
  add column account text check (length(account) <= 200),
  add column permissions text[] not null default '{}',
  add column webhook_secret text,
  add column webhook_key_id text,
  add constraint webhook_secret_names_its_key check ((webhook_secret is null) = (webhook_key_id is null));
comment on column public.user_api_keys.set_at is 'When the user set this very key: neither a new seal nor a mark changes it, so it tells which key was used.';
comment on column public.user_api_keys.invalid_at is 'When the provider first refused the key; null: it did not. Jobs wait until the key is set again.';
comment on column public.user_api_keys.account is 'Who the key belongs to, as the provider names it; null: it does not say.';
comment on column public.user_api_keys.webhook_secret is 'What the provider signs its webhooks with, sealed. No client may read it.';
comment on column public.user_api_keys.webhook_key_id is 'Which master secret sealed webhook_secret.';
create index user_api_keys_key_id_idx on public.user_api_keys (key_id);

grant select (invalid_at, invalid_reason, account, permissions) on public.user_api_keys to authenticated;

-- A key that is new, or taken again, is what its user's jobs wait for.
create function private.wake_jobs_of_key() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if tg_op = 'UPDATE' and new.set_at = old.set_at
     and (old.invalid_at is null or new.invalid_at is not null) then
    return null;
  end if;
  update private.training_job_control c set next_poll_at = now()
    from public.training_jobs j
    where j.id = c.job_id and j.user_id = new.user_id and j.provider = new.provider
      and j.status not in ('completed', 'failed', 'cancelled');
  return null;
end $$;
create trigger wake_jobs_of_key after insert or update of set_at, invalid_at on public.user_api_keys
  for each row execute function private.wake_jobs_of_key();

create function public.mark_api_key_invalid(
  p_user_id uuid, p_provider text, p_set_at timestamptz, p_reason text
) returns boolean language plpgsql set search_path = '' as $$
begin
  update public.user_api_keys
    set invalid_at = coalesce(invalid_at, now()), invalid_reason = left(p_reason, 500)
    where user_id = p_user_id and provider = p_provider and set_at = p_set_at;
  return found;
end $$;
comment on function public.mark_api_key_invalid(uuid, text, timestamptz, text) is
  'false: the user has replaced or deleted the key that was refused, and nothing was changed.';

-- The nonce makes each ciphertext unique, so the old text names both the row's state and the column.
create function public.reseal_api_key(
  p_user_id uuid, p_provider text, p_old text, p_new text, p_key_id text
) returns boolean language plpgsql set search_path = '' as $$
begin
  update public.user_api_keys set ciphertext = p_new, key_id = p_key_id
    where user_id = p_user_id and provider = p_provider and ciphertext = p_old;
  if found then
    return true;
  end if;
  update public.user_api_keys set webhook_secret = p_new, webhook_key_id = p_key_id
    where user_id = p_user_id and provider = p_provider and webhook_secret = p_old;
  return found;
end $$;
comment on function public.reseal_api_key(uuid, text, text, text, text) is
  'false: what was opened stands there no more, and nothing was changed.';

revoke execute on function public.mark_api_key_invalid(uuid, text, timestamptz, text),
  public.reseal_api_key(uuid, text, text, text, text) from public, anon, authenticated;
grant execute on function public.mark_api_key_invalid(uuid, text, timestamptz, text),
  public.reseal_api_key(uuid, text, text, text, text) to service_role;
