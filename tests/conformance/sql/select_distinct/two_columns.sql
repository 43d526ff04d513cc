-- pairs once, NULL being a value
SELECT DISTINCT device, site FROM readings_plain;
