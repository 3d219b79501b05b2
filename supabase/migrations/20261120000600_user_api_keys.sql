-- Provider keys, sealed. Only functions hold the secret that opens them.

create table public.user_api_keys (
  user_id uuid not null references auth.users (id) on delete cascade,
  provider text not null check (provider in
    ('openai', 'anthropic', 'gemini', 'huggingface', 'together', 'modal', 'openai_compatible')),
  ciphertext text not null,
  key_id text not null,
  last_four text not null check (length(last_four) <= 4),
  base_url text check (length(base_url) <= 500),
  validated_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (user_id, provider)
);
comment on column public.user_api_keys.ciphertext is 'AES-256-GCM bound to user, provider, base_url and key_id. No client may read it.';
comment on column public.user_api_keys.key_id is 'Which master secret sealed it.';
create trigger touch_updated_at before update on public.user_api_keys
  for each row execute function private.touch_updated_at();

revoke all on public.user_api_keys from anon, authenticated, service_role;
grant select (user_id, provider, last_four, base_url, validated_at, created_at, updated_at)
  on public.user_api_keys to authenticated;
grant select, insert, update, delete on public.user_api_keys to service_role;

alter table public.user_api_keys enable row level security;
create policy "users see which keys they set" on public.user_api_keys for select to authenticated
  using (user_id = (select auth.uid()));
