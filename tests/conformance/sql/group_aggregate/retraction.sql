-- an aggregate of an aggregate: what it read is taken back, MAX falls again
-- key: c
SELECT c, COUNT(*) AS devices, MAX(device) AS last_one
FROM (SELECT device, COUNT(*) AS c FROM readings_plain GROUP BY device)
GROUP BY c;
