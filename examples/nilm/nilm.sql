-- Household energy: total power in, prediction windows and labelled training sets out. Flink SQL; README.md explains it.
-- A table without a connector is a stream in the log; meters feed it over MQTT, topics power/... and device_state/...

CREATE TABLE `power` (
  client_id   STRING,
  username    STRING,
  `timestamp` BIGINT,                      -- seconds since 1970; a meter without a clock leaves it out
  consumption DOUBLE,                      -- the whole house, W
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
);

CREATE TABLE device_state (
  client_id    STRING,
  username     STRING,
  `timestamp`  BIGINT,                     -- that of the reading it belongs to
  state_bitmap ARRAY<BOOLEAN>,             -- which appliances were on
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
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
  window_end   TIMESTAMP(3),               -- the last one and the gap of 5 s
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

-- What a model is asked about: the last 15 seconds of each household, every second.
INSERT INTO predictions
SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption)
FROM TABLE(HOP(TABLE `power`, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '15' SECOND))
GROUP BY client_id, window_start, window_end;

-- What a model learns from: labelled stretches that last longer than 30 seconds.
INSERT INTO dataset2train
SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption), ARRAY_AGG(state_bitmap)
FROM TABLE(SESSION(TABLE fused PARTITION BY client_id, DESCRIPTOR(ts), INTERVAL '5' SECOND))
GROUP BY client_id, window_start, window_end
HAVING TIMESTAMPDIFF(SECOND, MIN(ts), MAX(ts)) > 30;

END;
