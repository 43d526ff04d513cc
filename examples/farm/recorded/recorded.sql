-- Recordings of two greenhouses (Italy) and twelve weather stations (Beijing) as readings of a farm; README.md says what is wrong in them.
--
-- Files come one after the other, each from its beginning: time jumps back by a year with every file. Windows would call all but the first file
-- late. So this is GROUP BY without windows, which knows no late rows: every row corrects the hour and the day that it belongs to.

CREATE TABLE micro (
  file STRING, read_no BIGINT, local_time STRING,
  soil_temperature DOUBLE, plant_temperature DOUBLE, par DOUBLE, water_1 DOUBLE, water_2 DOUBLE
);
CREATE TABLE four_temperatures (
  file STRING, read_no BIGINT, local_time STRING, t1 DOUBLE, t2 DOUBLE, t3 DOUBLE, t4 DOUBLE
);
CREATE TABLE climate (file STRING, read_no BIGINT, local_time STRING, temperature DOUBLE, humidity DOUBLE);
CREATE TABLE fixed (file STRING, local_time STRING, reading DOUBLE);

-- Every cell may be NA, so what may be a number is text here.
CREATE TABLE beijing (
  station STRING, `year` INT, `month` INT, `day` INT, `hour` INT, TEMP STRING, RAIN STRING, WSPM STRING
);

-- One row a measurement of the loggers. Units: degrees Celsius, percent, umol/m2/s (par).
CREATE TABLE logged (sensor STRING, kind STRING, raw DOUBLE, local_ts TIMESTAMP(3), pt AS PROCTIME());
INSERT INTO logged
SELECT CONCAT(REGEXP_EXTRACT(file, '([A-Za-z0-9_]+)\.csv$', 1), '/', place), kind, raw, TO_TIMESTAMP(local_time, 'dd/MM/yyyy HH:mm:ss')
FROM (
  SELECT file, 'soil' AS place, 'soil_temperature' AS kind, soil_temperature AS raw, local_time FROM micro UNION ALL
  SELECT file, 'plant', 'plant_temperature', plant_temperature, local_time FROM micro UNION ALL
  SELECT file, 'par', 'par', par, local_time FROM micro UNION ALL
  SELECT file, 'water_1', 'soil_moisture', water_1 * 100, local_time FROM micro UNION ALL
  SELECT file, 'water_2', 'soil_moisture', water_2 * 100, local_time FROM micro UNION ALL
  SELECT file, 't1', 'temperature', t1, local_time FROM four_temperatures UNION ALL
  SELECT file, 't2', 'temperature', t2, local_time FROM four_temperatures UNION ALL
  SELECT file, 't3', 'temperature', t3, local_time FROM four_temperatures UNION ALL
  SELECT file, 't4', 'temperature', t4, local_time FROM four_temperatures UNION ALL
  SELECT file, 't', 'temperature', temperature, local_time FROM climate UNION ALL
  SELECT file, 'h', 'humidity', humidity, local_time FROM climate
);

-- The loggers' clock is no time zone: it ran two hours before UTC until 2021-10-31 04:00, was set back to 03:00 (Italy does that at 03:00, to 02:00), and
-- stayed one hour before UTC, also in the summer of 2022. So the hour from 03:00 stands there twice, and which of the two a row means is known only by the order:
-- the first time that a sensor says 03:15 it is 01:15 UTC, the second time 02:15.
CREATE VIEW doubled AS
  SELECT sensor, kind, raw, local_ts, COUNT(*) OVER (PARTITION BY sensor, local_ts ORDER BY pt) AS pass
  FROM logged
  WHERE local_ts >= TIMESTAMP '2021-10-31 03:00:00' AND local_ts < TIMESTAMP '2021-10-31 04:00:00';

CREATE VIEW timed AS
  SELECT 'greenhouse' AS site, sensor, kind, raw,
         local_ts - CASE WHEN local_ts < TIMESTAMP '2021-10-31 03:00:00' THEN INTERVAL '2' HOUR ELSE INTERVAL '1' HOUR END AS at_
  FROM logged
  WHERE local_ts < TIMESTAMP '2021-10-31 03:00:00' OR local_ts >= TIMESTAMP '2021-10-31 04:00:00'
  UNION ALL
  SELECT 'greenhouse', sensor, kind, raw,
         local_ts - CASE WHEN pass = 1 THEN INTERVAL '2' HOUR ELSE INTERVAL '1' HOUR END
  FROM doubled
  UNION ALL
  -- The fixed station keeps Italian time, with two ways to write it. Its light is in kilolux until 2022-05-04, then in lux.
  SELECT 'greenhouse', sensor, kind,
         CASE WHEN kind = 'light' AND local_text >= '2022-05-04 00:00:00' THEN raw / 1000 ELSE raw END,
         TO_TIMESTAMP(CONVERT_TZ(local_text, 'Europe/Rome', 'UTC'))
  FROM (
    SELECT REGEXP_EXTRACT(file, '([A-Za-z0-9_]+)\.csv$', 1) AS sensor, reading AS raw,
           CASE REGEXP_EXTRACT(file, 'Ref_([A-Za-z]+)\.csv$', 1)
             WHEN 'AirTemp' THEN 'temperature' WHEN 'RH' THEN 'humidity' WHEN 'PAR' THEN 'light'
             WHEN 'SoilTemp' THEN 'soil_temperature' ELSE 'soil_moisture' END AS kind,
           CASE WHEN local_time LIKE '%/%' THEN DATE_FORMAT(TO_TIMESTAMP(local_time, 'dd/MM/yyyy HH:mm:ss'), 'yyyy-MM-dd HH:mm:ss')
                ELSE local_time END AS local_text
    FROM fixed
  )
  UNION ALL
  SELECT 'beijing', station, kind, raw, at_ FROM weather;

-- Beijing has no summer time: eight hours before UTC, always.
CREATE VIEW weather AS
  SELECT station, 'temperature' AS kind, TRY_CAST(TEMP AS DOUBLE) AS raw, at_ FROM dated UNION ALL
  SELECT station, 'rain', TRY_CAST(RAIN AS DOUBLE), at_ FROM dated UNION ALL
  SELECT station, 'wind', TRY_CAST(WSPM AS DOUBLE), at_ FROM dated;

CREATE VIEW dated AS
  SELECT station, TEMP, RAIN, WSPM,
         TO_TIMESTAMP(CONCAT(CAST(`year` AS STRING), '-', LPAD(CAST(`month` AS STRING), 2, '0'), '-', LPAD(CAST(`day` AS STRING), 2, '0'),
                             ' ', LPAD(CAST(`hour` AS STRING), 2, '0'), ':00:00')) - INTERVAL '8' HOUR AS at_
  FROM beijing;

-- What cannot be is kept as it came (`raw`), has no value, and says why.
CREATE VIEW judged AS
  SELECT site, sensor, kind, at_, raw,
         CASE WHEN raw IS NULL OR CAST(raw AS STRING) = 'NaN' THEN 'missing'
              WHEN kind IN ('temperature', 'soil_temperature', 'plant_temperature') AND (raw < -40 OR raw > 60) THEN 'impossible'
              WHEN kind IN ('humidity', 'soil_moisture') AND (raw < 0 OR raw > 100) THEN 'impossible'
              WHEN kind = 'par' AND (raw < 0 OR raw > 2200) THEN 'impossible'
              WHEN kind = 'light' AND (raw < 0 OR raw > 150) THEN 'impossible'
              WHEN kind IN ('rain', 'wind') AND raw < 0 THEN 'impossible' END AS flaw
  FROM timed;

CREATE TABLE readings (site STRING, sensor STRING, kind STRING, at_ TIMESTAMP(3), `value` DOUBLE, raw DOUBLE, flaw STRING);
INSERT INTO readings
SELECT site, sensor, kind, at_, CASE WHEN flaw IS NULL THEN raw END, CASE WHEN flaw IS NULL OR flaw = 'impossible' THEN raw END, flaw FROM judged;

CREATE TABLE hours (
  site STRING, sensor STRING, kind STRING, `hour` STRING, readings BIGINT, lowest DOUBLE, highest DOUBLE, average DOUBLE,
  PRIMARY KEY (site, sensor, kind, `hour`) NOT ENFORCED
);
INSERT INTO hours
SELECT site, sensor, kind, DATE_FORMAT(at_, 'yyyy-MM-dd HH'), COUNT(`value`), MIN(`value`), MAX(`value`), AVG(`value`)
FROM readings WHERE site = 'greenhouse'          -- Beijing has one reading an hour
GROUP BY site, sensor, kind, DATE_FORMAT(at_, 'yyyy-MM-dd HH');

CREATE TABLE days (
  site STRING, sensor STRING, kind STRING, `day` STRING, readings BIGINT, flaws BIGINT, lowest DOUBLE, highest DOUBLE, average DOUBLE,
  PRIMARY KEY (site, sensor, kind, `day`) NOT ENFORCED
);
INSERT INTO days
SELECT site, sensor, kind, DATE_FORMAT(at_, 'yyyy-MM-dd'), COUNT(`value`), COUNT(flaw), MIN(`value`), MAX(`value`), AVG(`value`)
FROM readings
GROUP BY site, sensor, kind, DATE_FORMAT(at_, 'yyyy-MM-dd');

-- A night goes from noon to noon (UTC) and has the date of its morning.
CREATE TABLE frost_nights (
  site STRING, sensor STRING, night STRING, lowest DOUBLE, readings BIGINT, PRIMARY KEY (site, sensor, night) NOT ENFORCED
);
INSERT INTO frost_nights
SELECT site, sensor, DATE_FORMAT(at_ + INTERVAL '12' HOUR, 'yyyy-MM-dd'), MIN(`value`), COUNT(`value`)
FROM readings WHERE kind = 'temperature'
GROUP BY site, sensor, DATE_FORMAT(at_ + INTERVAL '12' HOUR, 'yyyy-MM-dd')
HAVING MIN(`value`) < 0;
