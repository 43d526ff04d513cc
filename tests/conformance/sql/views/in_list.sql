-- IN and NOT IN with a list; NULL is in none
SELECT n, device, site FROM readings WHERE device IN ('a', 'c') AND site NOT IN ('y');
