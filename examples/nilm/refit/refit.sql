-- The same flows for homes whose meters report every 3 to 13 seconds (REFIT): ../README.md says why these times.
--   qanat up examples/nilm/refit        and in another terminal:  qanat sim replay House_1.csv.gz --speed 600

CREATE TABLE `power` (
  client_id   STRING,
  username    STRING,
  `timestamp` BIGINT,                      -- seconds since 1970; a meter without a clock leaves it out
  consumption DOUBLE,                      -- the whole house, W
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE
);

CREATE TABLE device_state (
  client_id    STRING,
  username     STRING,
  `timestamp`  BIGINT,                     -- that of the reading it belongs to
  state_bitmap ARRAY<BOOLEAN>,             -- which appliances were on
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE
);

CREATE TABLE predictions (
  client_id    STRING,
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  readings     BIGINT,
  `values`     ARRAY<DOUBLE>               -- in the order of event time
);

CREATE TABLE dataset2train (
  client_id    STRING,
  window_start TIMESTAMP(3),               -- the first fused second
  window_end   TIMESTAMP(3),               -- the last one and the gap of 60 s
  readings     BIGINT,
  consumption  ARRAY<DOUBLE>,              -- in the order of event time
  state_bitmap ARRAY<ARRAY<BOOLEAN>>       -- the label of each reading
);

-- Power and state of one household in the same second.
CREATE VIEW fused AS
SELECT p.client_id, p.ts, p.consumption, d.state_bitmap
FROM `power` AS p
JOIN device_state AS d ON p.client_id = d.client_id AND p.ts = d.ts;

EXECUTE STATEMENT SET
BEGIN

-- What a model is asked about: the last 2 minutes of each household, every 30 seconds.
INSERT INTO predictions
SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption)
FROM TABLE(HOP(TABLE `power`, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '2' MINUTE))
GROUP BY client_id, window_start, window_end;

-- What a model learns from: labelled stretches that last longer than 10 minutes.
INSERT INTO dataset2train
SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption), ARRAY_AGG(state_bitmap)
FROM TABLE(SESSION(TABLE fused PARTITION BY client_id, DESCRIPTOR(ts), INTERVAL '60' SECOND))
GROUP BY client_id, window_start, window_end
HAVING TIMESTAMPDIFF(SECOND, MIN(ts), MAX(ts)) > 600;

END;
