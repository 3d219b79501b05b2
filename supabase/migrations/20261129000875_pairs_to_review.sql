-- What a reviewer sees first: the pairs that are most likely wrong.

-- Each reason has a weight, and they add up; doubt about grounding and quality orders what has the same reasons.
-- Odd length: the logarithm of the answer's length in characters lies more than 3.5 robust standard deviations from
-- the dataset's median (Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993). One of them is the distance
-- of the quartiles / 1.349, as in a normal distribution, and at least a tenth, so that answers of nearly one length
-- are not all odd.
create view public.pairs_to_review with (security_invoker = on) as
select p.id, p.dataset_id, p.project_id, p.document_id, p.chunk_id, p.ordinal, p.kind, p.messages, p.system_message,
  p.user_message, p.assistant_message, p.rejected_message, p.char_start, p.char_end, p.quality_score,
  p.grounding_score, p.judge_score, p.token_count, p.is_valid, p.issues, p.issue_details, p.review_status,
  p.is_gold_star, p.rating, p.split, p.revision, p.created_at, p.updated_at,
  p.review_status = 'pending' as is_pending,
  array_remove(array[
    case when is_unsupported then 'unsupported' end,
    case when judge_disagrees then 'judge_disagrees' end,
    case when is_near_duplicate then 'near_duplicate' end,
    case when is_odd_length then 'odd_length' end,
    case when not is_valid and not is_unsupported and not is_near_duplicate and not judge_disagrees
      then 'issue' end], null) as risk_reasons,
  (4 * is_unsupported::integer + 3 * judge_disagrees::integer + 2 * is_near_duplicate::integer
    + 2 * is_odd_length::integer + 2 * (not is_valid)::integer
    + 1 - coalesce(grounding_score, 0.5) + 1 - coalesce(quality_score, 0.5))::real as risk_score
from public.training_pairs p
join (
  select dataset_id, percentile_cont(array[0.25, 0.5, 0.75]) within group (
    order by ln(1 + length(coalesce(messages -> -1 ->> 'content', assistant_message)))) as quartiles
  from public.training_pairs group by dataset_id
) lengths on lengths.dataset_id = p.dataset_id
cross join lateral (
  select found_by_checks or coalesce(p.grounding_score < 0.5, false) as is_unsupported,
    p.issues && '{near_duplicate,duplicate_question}' as is_near_duplicate,
    -- One of the checks and the judge finds all of it in the source, and the other does not.
    coalesce((p.judge_score < 0.5) <> found_by_checks, false) as judge_disagrees,
    abs(ln(1 + length(coalesce(p.messages -> -1 ->> 'content', p.assistant_message))) - quartiles[2])
      > 3.5 * greatest((quartiles[3] - quartiles[1]) / 1.349, 0.1) as is_odd_length
  from (select p.issues && '{not_grounded,number_not_in_source,number_misplaced,name_not_in_source,quote_not_in_source,reasoning_not_in_source}'
    as found_by_checks) checked
) found;
-- Not ordered in here: every row would be sorted a second time for who asks for a page.
comment on view public.pairs_to_review is 'To be ordered by is_pending desc, risk_score desc, id.';
comment on column public.pairs_to_review.risk_reasons is
  'Any of unsupported, judge_disagrees, near_duplicate, odd_length, issue.';
comment on column public.pairs_to_review.risk_score is
  'The higher, the likelier wrong: 0 to 13. Comparable within a dataset.';
revoke all on public.pairs_to_review from anon, authenticated, service_role;
grant select on public.pairs_to_review to authenticated, service_role;

-- A page of them, by the same filter as review_pairs, in their order.
create function private.riskiest_pairs(p_dataset_id uuid, p_filter jsonb, p_limit integer, p_offset integer)
returns setof public.pairs_to_review language sql stable security definer set search_path = '' as $$
  select v.* from public.pairs_to_review v
  where v.dataset_id = p_dataset_id and v.project_id in (select private.my_projects())
    and (p_filter = '{}' or v.id in (select private.filtered_pairs(p_dataset_id, private.checked_filter(p_filter))))
  order by v.is_pending desc, v.risk_score desc, v.id limit least(p_limit, 1000) offset p_offset
$$;
create function public.riskiest_pairs(
  p_dataset_id uuid, p_filter jsonb default '{}', p_limit integer default 20, p_offset integer default 0
) returns setof public.pairs_to_review language sql stable set search_path = '' as $$
  select * from private.riskiest_pairs(p_dataset_id, p_filter, p_limit, p_offset)
$$;
comment on function public.riskiest_pairs(uuid, jsonb, integer, integer) is
  'For members: pairs of a dataset by the filter of review_pairs, those to be reviewed first, the riskiest before all.';
revoke execute on function public.riskiest_pairs(uuid, jsonb, integer, integer) from public, anon;
grant execute on function public.riskiest_pairs(uuid, jsonb, integer, integer),
  private.riskiest_pairs(uuid, jsonb, integer, integer) to authenticated;
