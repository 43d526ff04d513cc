-- variance over a changelog
-- key: device
SELECT device, VAR_POP(v) AS vp, STDDEV_SAMP(v) AS ss, COUNT(v) AS c FROM readings_plain WHERE v < 100 AND v > -100 GROUP BY device;
