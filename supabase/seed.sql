-- A demo user for local work: demo@fineflow.local / fineflow-demo. Never run on a hosted project.

insert into auth.users (id, email, encrypted_password, email_confirmed_at, raw_app_meta_data, raw_user_meta_data,
    created_at, updated_at, aud, role)
  values ('00000000-0000-4000-8000-000000000001', 'demo@fineflow.local',
    '$2b$10$8218BUX0uwZ6rS4zel1/m.Ev38150idq9nu7tVF3/BlPUpa3N3qPm', now(), '{"provider": "email", "providers": ["email"]}',
    '{"name": "Demo"}', now(), now(), 'authenticated', 'authenticated')
  on conflict do nothing;
insert into auth.identities (id, user_id, provider, provider_id, identity_data, created_at, updated_at)
  values ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001', 'email',
    '00000000-0000-4000-8000-000000000001',
    '{"sub": "00000000-0000-4000-8000-000000000001", "email": "demo@fineflow.local"}', now(), now())
  on conflict do nothing;
insert into public.projects (id, owner_id, name)
  values ('00000000-0000-4000-8000-000000000003', '00000000-0000-4000-8000-000000000001', 'Demo project')
  on conflict do nothing;
