-- The inputs of all cases. Every one is valid in Flink 2.3; ${IN} is the folder of the input files.

-- Telemetry: disorder, late rows (by up to hours), NULLs, ties, border timestamps, three quiet hours.
CREATE TABLE readings (device STRING, site STRING, v DOUBLE, n INT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/readings.json', 'format' = 'json');

-- The same rows, none of them late: for operators with two inputs, where Flink's watermark depends on who reads first.
CREATE TABLE readings_all (device STRING, site STRING, v DOUBLE, n INT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '12' HOUR)
WITH ('connector' = 'filesystem', 'path' = '${IN}/readings.json', 'format' = 'json');

-- Without a watermark: for results that do not know event time.
CREATE TABLE readings_plain (device STRING, site STRING, v DOUBLE, n INT, ts TIMESTAMP(3), pt AS PROCTIME())
WITH ('connector' = 'filesystem', 'path' = '${IN}/readings.json', 'format' = 'json');

CREATE TABLE events (id BIGINT, device STRING, kind STRING, level INT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/events.json', 'format' = 'json');

CREATE TABLE orders (id BIGINT, customer STRING, amount DECIMAL(10, 2), qty INT, status STRING, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/orders.json', 'format' = 'json');

CREATE TABLE bids (auction BIGINT, bidder STRING, price BIGINT, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/bids.json', 'format' = 'json');

-- Arrays, maps, rows and JSON texts.
CREATE TABLE bags (id INT, tags ARRAY<STRING>, attrs MAP<STRING, INT>, items ARRAY<ROW<sku STRING, qty INT>>,
  pos ROW<lat DOUBLE, lon DOUBLE>, doc STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/bags.json', 'format' = 'json');

CREATE TABLE texts (id INT, s STRING, kv STRING, d DATE, num STRING, x DOUBLE, ts TIMESTAMP(3),
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/texts.json', 'format' = 'json');

-- A changelog with updates and deletes.
CREATE TABLE accounts (id INT, name STRING, balance DECIMAL(8, 2), city STRING, ts TIMESTAMP(3),
  PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'filesystem', 'path' = '${IN}/accounts.json', 'format' = 'debezium-json');

-- Versions of devices, as a changelog (with a delete) and as rows that only come in.
CREATE TABLE rates (device STRING, owner STRING, rate DECIMAL(6, 3), ts TIMESTAMP(3),
  PRIMARY KEY (device) NOT ENFORCED, WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = '${IN}/rates.json', 'format' = 'debezium-json');

CREATE TABLE devices (device STRING, owner STRING, rate DECIMAL(6, 3), ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = '${IN}/devices.json', 'format' = 'json');

CREATE TABLE sites (site STRING, city STRING, size INT)
WITH ('connector' = 'filesystem', 'path' = '${IN}/sites.json', 'format' = 'json');

-- Instants around the changes to summer time in New York and Berlin.
CREATE TABLE instants (k STRING, n INT, ms BIGINT, ts AS TO_TIMESTAMP_LTZ(ms, 3),
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/instants.json', 'format' = 'json');

-- The first row makes all others late.
CREATE TABLE late_ones (k STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/late.json', 'format' = 'json');

CREATE TABLE nothing (k STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/empty.json', 'format' = 'json');

-- Gaps of exactly a session's gap, and a millisecond more; rows that join sessions.
CREATE TABLE touching (k STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)
WITH ('connector' = 'filesystem', 'path' = '${IN}/touching.json', 'format' = 'json');

-- The rows of readings in order of time, for arrays and what else goes by arrival.
CREATE TABLE readings_in_order (device STRING, site STRING, v DOUBLE, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
WITH ('connector' = 'filesystem', 'path' = '${IN}/in_order.json', 'format' = 'json');

CREATE TABLE touching_all (k STRING, n INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE)
WITH ('connector' = 'filesystem', 'path' = '${IN}/touching.json', 'format' = 'json');
