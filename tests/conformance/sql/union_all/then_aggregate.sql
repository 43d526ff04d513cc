-- an updating aggregate over both
-- order: final
SELECT device, COUNT(*) AS c
FROM (SELECT device FROM readings_plain UNION ALL SELECT device FROM events)
GROUP BY device;
