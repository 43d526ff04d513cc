-- dates and their parts
SELECT id, YEAR(d) AS y, QUARTER(d) AS q, MONTH(d) AS m, WEEK(d) AS w, DAYOFYEAR(d) AS doy, DAYOFWEEK(d) AS dow, d + INTERVAL '1' MONTH AS next_month,
  TIMESTAMPDIFF(DAY, d, DATE '2026-03-01') AS days, CAST(d AS STRING) AS t, CAST(d AS TIMESTAMP(3)) AS at_midnight, TIMESTAMPADD(HOUR, 25, ts) AS later, ts - INTERVAL '1' DAY AS before
FROM texts;
