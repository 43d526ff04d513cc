-- a row that does not change the result gives no change
-- key: site
SELECT site, MAX(v) AS hi FROM readings_plain GROUP BY site;
