-- DISTINCT over updates and deletes
-- key: city
SELECT DISTINCT city FROM accounts;
