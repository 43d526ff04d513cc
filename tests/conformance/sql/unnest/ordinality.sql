-- WITH ORDINALITY counts from 1
SELECT id, tag, place FROM bags CROSS JOIN UNNEST(tags) WITH ORDINALITY AS t (tag, place);
