-- updates and deletes of a changelog: groups vanish
-- key: city
SELECT city, COUNT(*) AS c, SUM(balance) AS s, MIN(name) AS lo FROM accounts GROUP BY city;
