-- One pair rewritten by an editor.

-- The pair as turns, whichever of its two shapes it has.
create function private.turns_of(pair public.training_pairs) returns jsonb
language sql immutable set search_path = '' as $$
  select coalesce(pair.messages,
    case when pair.system_message <> '' then
      jsonb_build_array(jsonb_build_object('role', 'system', 'content', pair.system_message)) else '[]' end
    || jsonb_build_array(jsonb_build_object('role', 'user', 'content', pair.user_message),
      jsonb_build_object('role', 'assistant', 'content', pair.assistant_message)))
$$;

-- The columns that an edit changes or makes unknown, as a revision keeps them.
create function private.edited_columns(pair public.training_pairs) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object('messages', pair.messages, 'system_message', pair.system_message,
    'user_message', pair.user_message, 'assistant_message', pair.assistant_message,
    'rejected_message', pair.rejected_message, 'token_count', pair.token_count,
    'quality_score', pair.quality_score, 'grounding_score', pair.grounding_score, 'judge_score', pair.judge_score,
    'is_valid', pair.is_valid, 'issues', pair.issues, 'issue_details', pair.issue_details)
$$;

-- The pair with its new text: what was computed from the old one is unknown until validate-dataset computes it
-- again, and an issue goes with what it was about. What a person wrote counts as valid until it is checked, so only
-- an issue that is left keeps the pair invalid.
create function private.after_edit(pair public.training_pairs, edited public.training_pairs)
returns public.training_pairs language plpgsql immutable set search_path = '' as $$
declare
  question_changed boolean;
  answer_changed boolean;
begin
  select array_agg(b.t ->> 'content') filter (where b.t ->> 'role' = 'assistant')
        is distinct from array_agg(a.t ->> 'content') filter (where a.t ->> 'role' = 'assistant'),
      array_agg(b.t ->> 'content') filter (where b.t ->> 'role' = 'user')
        is distinct from array_agg(a.t ->> 'content') filter (where a.t ->> 'role' = 'user')
    into answer_changed, question_changed
    from jsonb_array_elements(private.turns_of(pair)) with ordinality b (t, place)
    full join jsonb_array_elements(private.turns_of(edited)) with ordinality a (t, place) using (place);
  edited.token_count := null;
  edited.quality_score := null;
  if answer_changed then
    edited.grounding_score := null;
    edited.judge_score := null;
  end if;
  select coalesce(array_agg(issue), '{}') into edited.issues from unnest(pair.issues) issue
    where case
      when issue in ('too_long', 'near_duplicate') then false
      when issue = 'duplicate_question' then not question_changed
      else not answer_changed end;
  select coalesce(jsonb_object_agg(key, value), '{}') into edited.issue_details
    from jsonb_each(pair.issue_details) where key = any (edited.issues);
  edited.is_valid := edited.issues = '{}';
  return edited;
end $$;

-- The text of one change. Refuses what is no text, empty or too long.
create function private.checked_text(field text, value jsonb) returns text
language plpgsql immutable set search_path = '' as $$
declare
  content text := value #>> '{}';
begin
  if jsonb_typeof(value) is distinct from 'string' or content ~ '^\s*$' then
    perform private.refuse(422, 'invalid_change', format('%s must be a text that is not empty.', field));
  elsif length(content) > 100000 then
    perform private.refuse(422, 'text_too_long',
      format('%s has %s characters; 100000 are allowed.', field, length(content)));
  end if;
  return content;
end $$;

-- A conversation as shared/datasets/model.py reads it: turns of known roles and fields, the assistant's last.
create function private.checked_messages(messages jsonb) returns jsonb
language plpgsql immutable set search_path = '' as $$
declare
  turn jsonb;
  place integer := 0;
begin
  if jsonb_typeof(messages) <> 'array' or jsonb_array_length(messages) not between 2 and 1000 then
    perform private.refuse(422, 'invalid_change', 'messages must be a list of 2 to 1000 turns.');
  end if;
  for turn in select value from jsonb_array_elements(messages) loop
    place := place + 1;
    if jsonb_typeof(turn) <> 'object'
        or coalesce(turn ->> 'role', '') not in ('system', 'user', 'assistant', 'tool')
        or (turn - '{role,content,tool_calls,tool_call_id,name,weight}'::text[]) <> '{}' then
      perform private.refuse(422, 'invalid_change',
        format('Message %s must have a role (system, user, assistant, tool), a content, and no field unknown.', place));
    end if;
    -- A turn that calls tools may say nothing.
    if not (coalesce(jsonb_typeof(turn -> 'tool_calls') = 'array', false) and turn -> 'content' = '""') then
      perform private.checked_text(format('The content of message %s', place), turn -> 'content');
    end if;
  end loop;
  if turn ->> 'role' <> 'assistant' then
    perform private.refuse(422, 'invalid_change', 'The last message must be of the assistant.');
  end if;
  return messages;
end $$;

-- The pair with these changes of its text and nothing else.
create function private.changed_pair(pair public.training_pairs, changes jsonb) returns public.training_pairs
language plpgsql immutable set search_path = '' as $$
declare
  takes text[] := case when pair.messages is null then '{system,user,assistant}'::text[]
      else '{messages,assistant}'::text[] end
    || case when pair.kind = 'preference' then '{rejected}'::text[] else '{}' end;
begin
  if jsonb_typeof(changes) is distinct from 'object' or changes = '{}' or changes - takes <> '{}'
      or changes ?& '{messages,assistant}' then
    perform private.refuse(422, 'invalid_change',
      'Say what to change: an object of ' || array_to_string(takes, ', ') || '.',
      case when pair.messages is not null then
        'This pair is a conversation: give messages, or assistant for its end.' end);
  end if;
  if changes ? 'system' then
    pair.system_message :=
      case when changes -> 'system' = 'null' then null else private.checked_text('system', changes -> 'system') end;
  end if;
  if changes ? 'user' then
    pair.user_message := private.checked_text('user', changes -> 'user');
  end if;
  if changes ? 'rejected' then
    pair.rejected_message := private.checked_text('rejected', changes -> 'rejected');
  end if;
  if changes ? 'messages' then
    pair.messages := private.checked_messages(changes -> 'messages');
  elsif changes ? 'assistant' and pair.messages is null then
    pair.assistant_message := private.checked_text('assistant', changes -> 'assistant');
  elsif changes ? 'assistant' then
    pair.messages := private.checked_messages(jsonb_set(pair.messages, '{-1,content}', changes -> 'assistant'));
  end if;
  return pair;
end $$;

create function private.edit_pair(p_pair_id uuid, p_changes jsonb, p_expected_revision integer) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  dataset public.training_datasets := private.dataset_of_pair(p_pair_id);
  batch uuid := gen_random_uuid();
  pair public.training_pairs;
  edited public.training_pairs;
  changed integer := 0;
begin
  select * into pair from public.training_pairs where id = p_pair_id for update;
  if not found then
    perform private.refuse(409, 'pair_deleted', 'The pair was deleted.', 'Restore it, then edit it.');
  end if;
  if p_expected_revision <> pair.revision then
    perform private.refuse(409, 'pair_changed', 'The pair was changed after you read it.',
      'Read it again, then edit it.');
  end if;
  edited := private.changed_pair(pair, p_changes);
  if edited is distinct from pair then
    insert into public.pair_revisions (pair_id, dataset_id, project_id, revision, batch_id, action, before, after)
      values (p_pair_id, dataset.id, dataset.project_id, pair.revision + 1, batch, 'edit', private.edited_columns(pair),
        private.edited_columns(private.after_edit(pair, edited)));
    changed := private.apply_batch(batch, dataset.id);
    perform private.judge_sample(batch, dataset.id, 'bad');
    select * into pair from public.training_pairs where id = p_pair_id;
  end if;
  return jsonb_build_object('batch_id', case changed when 1 then batch end, 'changed', changed, 'pair', to_jsonb(pair));
end $$;

create function public.edit_pair(p_pair_id uuid, p_changes jsonb, p_expected_revision integer default null)
returns jsonb language sql set search_path = '' as $$
  select private.edit_pair(p_pair_id, p_changes, p_expected_revision)
$$;
comment on function public.edit_pair(uuid, jsonb, integer) is
  'For editors: any of {system, user, assistant, messages, rejected} of a pair, in one step. Given the revision that'
  ' was read, refused as pair_changed where somebody was quicker. {batch_id, changed, pair}.';
revoke execute on function public.edit_pair(uuid, jsonb, integer) from public, anon;
grant execute on function public.edit_pair(uuid, jsonb, integer),
  private.edit_pair(uuid, jsonb, integer) to authenticated;
