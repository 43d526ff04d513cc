-- FIRST_VALUE and LAST_VALUE by arrival
-- key: device
SELECT device, FIRST_VALUE(n) AS f, LAST_VALUE(n) AS l, LAST_VALUE(v) AS lv FROM readings_plain GROUP BY device;
