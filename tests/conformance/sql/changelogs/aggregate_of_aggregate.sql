-- groups of groups over updates and deletes
-- key: c
SELECT c, COUNT(*) AS cities FROM (SELECT city, COUNT(*) AS c FROM accounts GROUP BY city) GROUP BY c;
