-- functions of texts
SELECT id, UPPER(s) AS u, LOWER(s) AS l, TRIM(s) AS t, CHAR_LENGTH(s) AS n, SUBSTRING(s, 2, 3) AS sub, REPLACE(s, 'a', 'A') AS r, POSITION('a' IN s) AS p,
  CONCAT(s, '|', kv) AS c, s || '!' AS x, LPAD(s, 4, '*') AS lp, REVERSE(s) AS rev, SPLIT_INDEX(s, '.', 1) AS si, INITCAP(s) AS ic, LEFT(s, 2) AS le, RIGHT(s, 2) AS ri
FROM texts;
