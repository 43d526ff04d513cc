-- Count, mean, least and greatest consumption of every client over the last 15 s, every second of event time.

CREATE TABLE `power` (
  client_id STRING,
  `timestamp` BIGINT,
  consumption DOUBLE,
  ts AS TO_TIMESTAMP_LTZ(`timestamp`, 3),
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH ('connector' = 'filesystem', 'path' = '${INPUT}', 'format' = 'json');

CREATE TABLE consumption_last_15s (
  client_id STRING,
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  n BIGINT,
  mean DOUBLE,
  low DOUBLE,
  high DOUBLE
) WITH ('connector' = 'filesystem', 'path' = '${OUTPUT}', 'format' = 'json');

INSERT INTO consumption_last_15s
SELECT client_id, window_start, window_end,
       COUNT(*), AVG(consumption), MIN(consumption), MAX(consumption)
FROM TABLE(HOP(TABLE `power`, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '15' SECOND))
GROUP BY client_id, window_start, window_end;
