-- every element of an array as a row; empty and NULL arrays give none
SELECT id, tag FROM bags CROSS JOIN UNNEST(tags) AS t (tag);
