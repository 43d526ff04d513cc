-- every row changes its group: +I, then -U and +U
-- key: device
SELECT device, COUNT(*) AS c FROM readings_plain GROUP BY device;
