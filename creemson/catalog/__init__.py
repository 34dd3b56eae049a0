"""The catalog: what the server stores about files, unfinished uploads and jobs, apart from the bytes of files."""
