-- The same flows over files, in one go: JSON lines in, JSON lines out. `qanat sim ... --out DIR` writes such files.
--   qanat run examples/nilm/batch/nilm.sql --param INPUT=DIR --param OUTPUT=DIR \
--     --param DELAY=00:05 --param STEP=00:01 --param WINDOW=00:15 --param GAP=00:05 --param SHORTEST=30
-- Times are minutes:seconds; SHORTEST is in seconds. For REFIT: 01:00, 00:30, 02:00, 01:00 and 600.

CREATE TABLE `power` (
  client_id   STRING,
  username    STRING,
  `timestamp` BIGINT,                      -- seconds since 1970; a meter without a clock leaves it out
  consumption DOUBLE,                      -- the whole house, W
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR ts AS ts - INTERVAL '${DELAY}' MINUTE TO SECOND
) WITH ('connector' = 'filesystem', 'path' = '${INPUT}/power.jsonl', 'format' = 'json');

CREATE TABLE device_state (
  client_id    STRING,
  username     STRING,
  `timestamp`  BIGINT,                     -- that of the reading it belongs to
  state_bitmap ARRAY<BOOLEAN>,             -- which appliances were on
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 0),
  WATERMARK FOR ts AS ts - INTERVAL '${DELAY}' MINUTE TO SECOND
) WITH ('connector' = 'filesystem', 'path' = '${INPUT}/device_state.jsonl', 'format' = 'json');

CREATE TABLE predictions (
  client_id    STRING,
  window_start TIMESTAMP(3),
  window_end   TIMESTAMP(3),
  readings     BIGINT,
  `values`     ARRAY<DOUBLE>               -- in the order of event time
) WITH ('connector' = 'filesystem', 'path' = '${OUTPUT}/predictions', 'format' = 'json');

CREATE TABLE dataset2train (
  client_id    STRING,
  window_start TIMESTAMP(3),               -- the first fused second
  window_end   TIMESTAMP(3),               -- the last one and the gap
  readings     BIGINT,
  consumption  ARRAY<DOUBLE>,              -- in the order of event time
  state_bitmap ARRAY<ARRAY<BOOLEAN>>       -- the label of each reading
) WITH ('connector' = 'filesystem', 'path' = '${OUTPUT}/dataset2train', 'format' = 'json');

-- Power and state of one household in the same second.
CREATE VIEW fused AS
SELECT p.client_id, p.ts, p.consumption, d.state_bitmap
FROM `power` AS p
JOIN device_state AS d ON p.client_id = d.client_id AND p.ts = d.ts;

EXECUTE STATEMENT SET
BEGIN

-- What a model is asked about: the last WINDOW of each household, every STEP.
INSERT INTO predictions
SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption)
FROM TABLE(HOP(TABLE `power`, DESCRIPTOR(ts),
               INTERVAL '${STEP}' MINUTE TO SECOND, INTERVAL '${WINDOW}' MINUTE TO SECOND))
GROUP BY client_id, window_start, window_end;

-- What a model learns from: labelled stretches that last longer than SHORTEST.
INSERT INTO dataset2train
SELECT client_id, window_start, window_end, COUNT(*), ARRAY_AGG(consumption), ARRAY_AGG(state_bitmap)
FROM TABLE(SESSION(TABLE fused PARTITION BY client_id, DESCRIPTOR(ts), INTERVAL '${GAP}' MINUTE TO SECOND))
GROUP BY client_id, window_start, window_end
HAVING TIMESTAMPDIFF(SECOND, MIN(ts), MAX(ts)) > ${SHORTEST};

END;
