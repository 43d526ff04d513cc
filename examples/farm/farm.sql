-- Farms: sensors of three vendors on topics farm/SITE/SENSOR/KIND; qanat.yaml says where the first three columns come from.

CREATE TABLE farm (
  site    STRING NOT NULL,                       -- from the topic, as sensor and kind
  sensor  STRING NOT NULL,
  kind    STRING NOT NULL,
  seq     BIGINT NOT NULL,
  ts      BIGINT,                                -- ms since 1970; cirrus has no clock, so it is the time of arrival
  `value` DOUBLE,                                -- acme
  unit    STRING,
  data    ROW<v DOUBLE, u STRING>,               -- borealis
  raw     BIGINT,                                -- cirrus
  scale   BIGINT,
  at_ AS TO_TIMESTAMP_LTZ(ts, 3),
  WATERMARK FOR at_ AS at_ - INTERVAL '10' SECOND
);

-- Three ways to write a measurement, one form. A sensor's name begins with its field: f2-00017.
CREATE VIEW normal AS
SELECT site, SPLIT_INDEX(sensor, '-', 0) AS field, sensor, kind, seq,
       CASE WHEN raw IS NOT NULL THEN CAST(raw AS DOUBLE) / scale WHEN data IS NOT NULL THEN data.v ELSE `value` END AS `value`,
       CASE WHEN data IS NOT NULL THEN data.u ELSE unit END AS unit,
       at_
FROM farm;

CREATE TABLE readings (
  site STRING, field STRING, sensor STRING, kind STRING, seq BIGINT, `value` DOUBLE, unit STRING, at_ TIMESTAMP_LTZ(3),
  WATERMARK FOR at_ AS at_ - INTERVAL '10' SECOND
);
INSERT INTO readings SELECT site, field, sensor, kind, seq, `value`, unit, at_ FROM normal;

CREATE TABLE quarters (
  site STRING, kind STRING, window_start TIMESTAMP(3), readings BIGINT, lowest DOUBLE, highest DOUBLE, average DOUBLE
);
INSERT INTO quarters
SELECT site, kind, window_start, COUNT(*), MIN(`value`), MAX(`value`), AVG(`value`)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(at_), INTERVAL '15' MINUTE))
GROUP BY site, kind, window_start, window_end;

-- The hour of each field: what dryness is judged by, since single readings of soil moisture stray.
CREATE VIEW hourly AS
SELECT site, field, kind, window_end, window_time, COUNT(*) AS readings, MIN(`value`) AS lowest, MAX(`value`) AS highest, AVG(`value`) AS average
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(at_), INTERVAL '1' HOUR))
GROUP BY site, field, kind, window_start, window_end, window_time;

CREATE TABLE field_hours (
  site STRING, field STRING, kind STRING, window_end TIMESTAMP(3), readings BIGINT, lowest DOUBLE, highest DOUBLE, average DOUBLE
);
INSERT INTO field_hours SELECT site, field, kind, window_end, readings, lowest, highest, average FROM hourly;
