insert into public.closed values (2);
