-- instants and their parts in UTC
SELECT n, ts, CAST(ts AS STRING) AS t, CAST(ts AS TIMESTAMP(3)) AS wall, HOUR(ts) AS h, DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm') AS f FROM instants;
