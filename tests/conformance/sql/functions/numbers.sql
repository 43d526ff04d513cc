-- functions of numbers
SELECT id, ROUND(x) AS r, FLOOR(x) AS f, CEIL(x) AS c, ABS(x) AS a, SIGN(x) AS s, POWER(x, 2) AS p, EXP(0) AS e, SQRT(ABS(x)) AS q, MOD(id, 2) AS m, GREATEST(id, 3) AS g, LEAST(x, 1) AS le, LOG10(1000) AS l10, TRUNCATE(x, 0) AS t
FROM texts;
