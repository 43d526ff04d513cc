"""Windows over a column of a stream: questions, the rows of the last hours in memory, SQL for all others, answers.

    query string --question--> Question --recent, or sql over log and lake--> Tally --answer--> JSON

`question` and `buckets` read nothing but text; `pieces` is arithmetic over arrays; `follower` feeds `recent` from the
log; `sql` writes a query and reads its rows. HTTP is `qanat.serve.v1.aggregate`.
"""
