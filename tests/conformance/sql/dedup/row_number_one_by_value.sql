-- ROW_NUMBER() = 1 ordered by a value: the winner changes, the loser is taken back
-- key: device
SELECT device, v, n
FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY device ORDER BY v DESC, n) AS rn FROM readings_plain)
WHERE rn = 1;
