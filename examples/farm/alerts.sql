-- Alerts: rows that say that something begins or ends. qanat.yaml says who is told of them.

CREATE TABLE alerts (site STRING, place STRING, alert STRING, state STRING, `value` DOUBLE, at_ TIMESTAMP_LTZ(3));

-- Frost, per sensor: it begins at 1 degree and ends at 3. What lies between says nothing, so that a value which wavers around one limit
-- raises no second alert (hysteresis).
CREATE VIEW cold AS
SELECT site, sensor, CASE WHEN `value` <= 1 THEN 'raised' ELSE 'cleared' END AS state, `value`, at_
FROM readings
WHERE kind = 'temperature' AND (`value` <= 1 OR `value` >= 3);

INSERT INTO alerts
SELECT site, sensor, 'frost', state, `value`, at_
FROM (
  SELECT site, sensor, state, `value`, at_, LAG(state) OVER (PARTITION BY site, sensor ORDER BY at_) AS before_it
  FROM cold
)
WHERE state <> COALESCE(before_it, 'cleared');

-- Dryness, per field: the hour's average of soil moisture falls to 20%, and is over when it is back at 25%.
CREATE VIEW dry AS
SELECT site, field, CASE WHEN average <= 20 THEN 'raised' ELSE 'cleared' END AS state, average, window_time
FROM hourly
WHERE kind = 'soil_moisture' AND (average <= 20 OR average >= 25);

INSERT INTO alerts
SELECT site, field, 'dryness', state, average, window_time
FROM (
  SELECT site, field, state, average, window_time, LAG(state) OVER (PARTITION BY site, field ORDER BY window_time) AS before_it
  FROM dry
)
WHERE state <> COALESCE(before_it, 'cleared');
