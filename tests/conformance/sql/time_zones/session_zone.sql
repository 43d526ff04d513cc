-- the same instants in another zone
SET 'table.local-time-zone' = 'Asia/Kolkata';
SELECT n, ts, CAST(ts AS STRING) AS t, CAST(ts AS TIMESTAMP(3)) AS wall, HOUR(ts) AS h, DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm') AS f FROM instants;
