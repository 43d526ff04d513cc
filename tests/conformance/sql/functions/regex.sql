-- LIKE, REGEXP, REGEXP_EXTRACT, REGEXP_REPLACE, SIMILAR TO
SELECT id, s LIKE '%a%' AS l, s LIKE 'a\_%' ESCAPE '\' AS esc, REGEXP(s, '[a-z]+\d?') AS r, REGEXP_EXTRACT(s, '([A-Za-z]+)[-.](.)', 2) AS e,
  REGEXP_REPLACE(s, '[aeiou]', '_') AS rr, s SIMILAR TO '[a-z.]+' AS st, STR_TO_MAP(kv, ';', '=')['x'] AS x
FROM texts;
