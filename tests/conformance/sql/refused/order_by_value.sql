-- fails: ORDER BY is not supported
SELECT device, v FROM readings ORDER BY v;
