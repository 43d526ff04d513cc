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

CREATE TABLE readings (
  site STRING, sensor STRING, kind STRING, seq BIGINT, `value` DOUBLE, unit STRING, at_ TIMESTAMP_LTZ(3),
  WATERMARK FOR at_ AS at_ - INTERVAL '10' SECOND
);

-- Three ways to write a measurement, one form.
INSERT INTO readings
SELECT site, sensor, kind, seq,
       CASE WHEN raw IS NOT NULL THEN CAST(raw AS DOUBLE) / scale WHEN data IS NOT NULL THEN data.v ELSE `value` END,
       CASE WHEN data IS NOT NULL THEN data.u ELSE unit END,
       at_
FROM farm;

CREATE TABLE quarters (
  site STRING, kind STRING, window_start TIMESTAMP(3), readings BIGINT, lowest DOUBLE, highest DOUBLE, average DOUBLE
);

INSERT INTO quarters
SELECT site, kind, window_start, COUNT(*), MIN(`value`), MAX(`value`), AVG(`value`)
FROM TABLE(TUMBLE(TABLE readings, DESCRIPTOR(at_), INTERVAL '15' MINUTE))
GROUP BY site, kind, window_start, window_end;
