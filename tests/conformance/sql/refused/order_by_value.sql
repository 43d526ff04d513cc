-- fails: ORDER BY
SELECT device, v FROM readings ORDER BY v;
